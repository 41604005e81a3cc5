-- Browsers and programs that have paired. The token itself is never stored.
CREATE TABLE sessions (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    token_hash BLOB    NOT NULL UNIQUE,          -- SHA-256 of the token
    created    INTEGER NOT NULL,                 -- seconds since 1970, as the other times
    expires    INTEGER NOT NULL,
    last_used  INTEGER NOT NULL,
    peer       TEXT    NOT NULL,                 -- address that paired
    agent      TEXT    NOT NULL                  -- what called itself what
);

-- Small choices of the owner, one value each.
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);
