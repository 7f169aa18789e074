CREATE TYPE "public"."grant_status" AS ENUM('active', 'revoked', 'expired');--> statement-breakpoint
CREATE TABLE "federation_peers" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"url" text NOT NULL,
	"public_key" text NOT NULL,
	"last_seen_at" timestamp,
	"created_at" timestamp DEFAULT now() NOT NULL,
	"updated_at" timestamp DEFAULT now() NOT NULL,
	CONSTRAINT "federation_peers_url_unique" UNIQUE("url")
);
--> statement-breakpoint
CREATE TABLE "federation_grants" (
	"id" text PRIMARY KEY NOT NULL,
	"peer_id" text NOT NULL,
	"granted_by" text,
	"scopes" text[] DEFAULT '{}'::text[] NOT NULL,
	"status" "grant_status" DEFAULT 'active' NOT NULL,
	"expires_at" timestamp,
	"created_at" timestamp DEFAULT now() NOT NULL,
	"updated_at" timestamp DEFAULT now() NOT NULL
);
--> statement-breakpoint
ALTER TABLE "federation_grants" ADD CONSTRAINT "federation_grants_peer_id_federation_peers_id_fk" FOREIGN KEY ("peer_id") REFERENCES "public"."federation_peers"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "federation_grants" ADD CONSTRAINT "federation_grants_granted_by_users_id_fk" FOREIGN KEY ("granted_by") REFERENCES "public"."users"("id") ON DELETE set null ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "federation_grants_peer_id_idx" ON "federation_grants" USING btree ("peer_id");--> statement-breakpoint
CREATE INDEX "federation_grants_status_idx" ON "federation_grants" USING btree ("status");
