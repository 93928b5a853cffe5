"""The loop's tables; the engines differ in how they number rows."""

_TRANSITIONS = (
    "CREATE TABLE IF NOT EXISTS transitions ("
    " number {number}, event_id TEXT NOT NULL UNIQUE, at_us BIGINT NOT NULL,"
    " model_name TEXT NOT NULL, subject TEXT NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL,"
    " reason TEXT NOT NULL, actor TEXT NOT NULL, cause TEXT NOT NULL,"
    " published INTEGER NOT NULL DEFAULT 0)"
)
_OTHERS = (
    "CREATE INDEX IF NOT EXISTS unpublished ON transitions (number) WHERE published = 0",
    "CREATE TABLE IF NOT EXISTS retrainings ("
    " cause TEXT PRIMARY KEY, model_name TEXT NOT NULL, score DOUBLE PRECISION NOT NULL,"
    " at_us BIGINT NOT NULL, run_id TEXT NOT NULL, state TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS rollouts ("
    " model_name TEXT PRIMARY KEY, version TEXT NOT NULL, against TEXT NOT NULL,"
    " stage TEXT NOT NULL, since_us BIGINT NOT NULL, cause TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS stopped ("
    " model_name TEXT PRIMARY KEY, reason TEXT NOT NULL, at_us BIGINT NOT NULL)",
)
SQLITE = (_TRANSITIONS.format(number="INTEGER PRIMARY KEY AUTOINCREMENT"), *_OTHERS)
POSTGRESQL = (
    _TRANSITIONS.format(number="BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    *_OTHERS,
)
