START TRANSACTION ISOLATION LEVEL SERIALIZABLE;
--> statement-breakpoint
INSERT INTO a VALUES (1);
--> statement-breakpoint
END;
--> statement-breakpoint
CREATE INDEX CONCURRENTLY a_i ON a (id);
