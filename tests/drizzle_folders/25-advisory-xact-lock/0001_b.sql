SELECT pg_advisory_xact_lock(1);
--> statement-breakpoint
INSERT INTO a VALUES (1);
