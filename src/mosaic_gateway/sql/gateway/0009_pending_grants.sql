ALTER TYPE "public"."grant_status" ADD VALUE 'pending';--> statement-breakpoint
ALTER TABLE "federation_grants" ALTER COLUMN "status" SET DEFAULT 'pending';
