CREATE SCHEMA s;
--> statement-breakpoint
DO $$ BEGIN SET LOCAL search_path = s; END $$;
--> statement-breakpoint
CREATE TABLE t (id int);
