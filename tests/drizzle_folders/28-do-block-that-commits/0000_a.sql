CREATE TABLE a (id int);
--> statement-breakpoint
DO $$ BEGIN FOR i IN 1..3 LOOP INSERT INTO a VALUES (i); COMMIT; END LOOP; END $$;
