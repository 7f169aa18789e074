DECLARE c CURSOR FOR SELECT id FROM a ORDER BY id FOR UPDATE;
--> statement-breakpoint
FETCH 1 FROM c;
--> statement-breakpoint
DELETE FROM a WHERE CURRENT OF c;
--> statement-breakpoint
CLOSE c;
