CREATE TABLE a (id int PRIMARY KEY);
--> statement-breakpoint
CREATE TABLE b (id int REFERENCES a DEFERRABLE);
