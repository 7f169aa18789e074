-- lint: allow journal-order the time stamp is the one that the npm gateway shipped, and its databases know it
ALTER TYPE "public"."grant_status" ADD VALUE 'pending';--> statement-breakpoint
ALTER TABLE "federation_grants" ALTER COLUMN "status" SET DEFAULT 'pending';
