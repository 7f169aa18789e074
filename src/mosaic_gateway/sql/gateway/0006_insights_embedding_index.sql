-- lint: allow index-not-concurrent part of the first release: the index is there before a gateway fills the table
CREATE INDEX "insights_embedding_idx" ON "insights" USING hnsw ("embedding" vector_cosine_ops);
