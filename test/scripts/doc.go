// Package scripts runs golden scripts: text files that tell a story of events and the values that a reader sees, which a product person can
// read and write. The same scripts try the oracle and the service's own step.
//
// A script is a definition, indented, and a story:
//
//		# Comments and empty lines stand anywhere.
//		definition
//		  group: shoppers
//		  …
//		event 2026-01-01 10:00 user=ann amount=12.50    -> accepted
//		at 2026-01-02 10:00
//		  user | spend_1d
//		  ann  | 0
//		rows
//		  user | as_of | valid_until | cause | spend_1d
//		  …
//
//	  - event: the next record of the topic: when it happened (UTC) and its fields, by the schema in event.avsc. Fields left out are null;
//	    the id is one of its own unless given. It is published when it happens, unless published=TIME says otherwise. What became of it
//	    stands behind the arrow.
//	  - at: the clock reaches the instant, all ticks up to it are worked off, and the table shows what a reader of the online store sees.
//	    A dash says that the entity is not known.
//	  - rows: the rows made since the last `rows`, in order: what the log holds.
//
// The header of a table says which features it shows. To write a new script, write headers and arrows only and run
//
//	go test ./test/scripts -update
//
// which fills in what the oracle says. Read it before you commit it.
package scripts
