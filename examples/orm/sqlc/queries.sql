-- name: Create :one
INSERT INTO invoices (title) VALUES (?) RETURNING *;

-- name: List :many
SELECT * FROM invoices ORDER BY title;
