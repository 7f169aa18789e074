SAVEPOINT one;
--> statement-breakpoint
INSERT INTO a VALUES (1);
--> statement-breakpoint
RELEASE SAVEPOINT one;
