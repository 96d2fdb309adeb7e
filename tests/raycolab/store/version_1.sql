BEGIN TRANSACTION;
CREATE TABLE attempts (
	id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	node TEXT NOT NULL, 
	outcome VARCHAR(16) NOT NULL, 
	started_at VARCHAR(27) NOT NULL, 
	ended_at VARCHAR(27), 
	reason TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (trial_id, number), 
	FOREIGN KEY(trial_id) REFERENCES trials (id) ON DELETE CASCADE
);
INSERT INTO "attempts" VALUES(1,1,1,'joiner-1','LOST','2026-11-22T20:30:00.250000Z','2026-11-22T20:30:01.250000Z','joiner-1 is gone');
INSERT INTO "attempts" VALUES(2,1,2,'head','COMPLETE','2026-11-22T20:30:01.250000Z','2026-11-22T20:30:02.250000Z',NULL);
CREATE TABLE raycolab_schema (
	version INTEGER NOT NULL
);
INSERT INTO "raycolab_schema" VALUES(1);
CREATE TABLE sweeps (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	name VARCHAR(255) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	spec TEXT NOT NULL, 
	main TEXT, 
	spec_fingerprint VARCHAR(128) NOT NULL, 
	code_fingerprint VARCHAR(128), 
	created_at VARCHAR(27) NOT NULL, 
	versions TEXT NOT NULL, 
	UNIQUE (name)
);
INSERT INTO "sweeps" VALUES(1,'other','DECLARED','{}',NULL,'cc',NULL,'2026-11-22T20:30:00.250000Z','{}');
INSERT INTO "sweeps" VALUES(2,'digits','DECLARED','{"seed":0}','{}','aa','bb','2026-11-22T20:30:00.250000Z','{"ray": "2.60.0"}');
CREATE TABLE trials (
	id INTEGER NOT NULL, 
	sweep_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	model TEXT NOT NULL, 
	dataset TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	config TEXT, 
	metrics TEXT NOT NULL, 
	node TEXT, 
	attempts INTEGER NOT NULL, 
	started_at VARCHAR(27), 
	ended_at VARCHAR(27), 
	error_kind VARCHAR(16), 
	error TEXT, 
	traceback TEXT, 
	cell_index INTEGER, 
	output TEXT, 
	same_as INTEGER, 
	PRIMARY KEY (id), 
	UNIQUE (sweep_id, number), 
	FOREIGN KEY(sweep_id) REFERENCES sweeps (id) ON DELETE CASCADE
);
INSERT INTO "trials" VALUES(1,2,0,'svc','iris','COMPLETE','{"C":1.0}','{"accuracy":0.5}','head',2,'2026-11-22T20:30:01.250000Z','2026-11-22T20:30:02.250000Z',NULL,NULL,NULL,NULL,'epoch 1',NULL);
INSERT INTO "trials" VALUES(2,2,1,'svc','iris','PENDING','{"C":2.0}','{}',NULL,0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE INDEX trials_states ON trials (sweep_id, number, state);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('sweeps',2);
COMMIT;
