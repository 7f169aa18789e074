CREATE TEMP TABLE plan (id int) ON COMMIT DELETE ROWS;
--> statement-breakpoint
INSERT INTO plan VALUES (1);
--> statement-breakpoint
INSERT INTO a SELECT id FROM plan;
