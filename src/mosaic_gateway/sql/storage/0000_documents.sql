CREATE TABLE "storage_documents" (
	"collection" text NOT NULL,
	"key" text NOT NULL,
	"value" jsonb NOT NULL,
	"revision" bigint DEFAULT 1 NOT NULL,
	"created_at" timestamp DEFAULT now() NOT NULL,
	"updated_at" timestamp DEFAULT now() NOT NULL,
	CONSTRAINT "storage_documents_collection_key_pk" PRIMARY KEY("collection","key")
);
--> statement-breakpoint
CREATE INDEX "storage_documents_collection_updated_at_idx" ON "storage_documents" USING btree ("collection","updated_at");
