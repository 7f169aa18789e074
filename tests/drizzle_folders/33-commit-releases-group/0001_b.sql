SET LOCAL lock_timeout = '5s';
--> statement-breakpoint
INSERT INTO a VALUES (1);
--> statement-breakpoint
COMMIT;
--> statement-breakpoint
CREATE INDEX CONCURRENTLY a_i ON a (id);
