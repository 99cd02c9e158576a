-- +goose Up
ALTER TABLE invoices ADD COLUMN author TEXT NOT NULL DEFAULT '';

-- +goose Down
ALTER TABLE invoices DROP COLUMN author;
