SET CONSTRAINTS ALL DEFERRED;
--> statement-breakpoint
INSERT INTO b VALUES (1);
--> statement-breakpoint
INSERT INTO a VALUES (1);
