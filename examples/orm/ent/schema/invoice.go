// Package schema is what ent generates from.
package schema

import (
	"entgo.io/ent"
	"entgo.io/ent/schema/field"
)

// Invoice is one table.
type Invoice struct{ ent.Schema }

// Fields are its columns; ent adds id.
func (Invoice) Fields() []ent.Field {
	return []ent.Field{field.String("title").NotEmpty().Unique()}
}
