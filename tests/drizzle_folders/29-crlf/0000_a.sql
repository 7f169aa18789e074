CREATE SCHEMA s;
--> statement-breakpoint
SET LOCAL search_path = s;
--> statement-breakpoint
CREATE TABLE t (id int, note text DEFAULT 'two
lines');
