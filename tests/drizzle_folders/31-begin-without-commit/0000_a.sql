BEGIN;
--> statement-breakpoint
CREATE TABLE a (id int);
--> statement-breakpoint
INSERT INTO a VALUES (1);
