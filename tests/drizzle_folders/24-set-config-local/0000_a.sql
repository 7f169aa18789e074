CREATE SCHEMA s;
--> statement-breakpoint
SELECT set_config('search_path', 's', true);
--> statement-breakpoint
CREATE TABLE t (id int);
