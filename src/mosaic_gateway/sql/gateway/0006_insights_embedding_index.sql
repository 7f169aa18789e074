CREATE INDEX "insights_embedding_idx" ON "insights" USING hnsw ("embedding" vector_cosine_ops);
