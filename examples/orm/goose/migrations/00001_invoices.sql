-- +goose Up
CREATE TABLE invoices (id INTEGER PRIMARY KEY, title TEXT NOT NULL UNIQUE);

-- +goose Down
DROP TABLE invoices;
