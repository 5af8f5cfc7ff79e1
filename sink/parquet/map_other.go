//go:build !unix

package parquet

// mapFile maps nothing here: files are read.
func mapFile(any, int64) (data []byte, unmap func(), ok bool) { return nil, nil, false }
