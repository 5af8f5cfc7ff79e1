package redis

import (
	"context"
	"slices"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// scanCount is how many keys one SCAN looks at.
const scanCount = 1000

// Versions returns the versions of a group whose pipelines have told of themselves, ascending. It goes through all keys of the server, or of
// each of a cluster: it is for tools, not for serving.
func (c *Client) Versions(ctx context.Context, group string) ([]int, error) {
	prefix := c.cfg.Prefix + ":_progress:" + group + ":v"
	seen := map[int]bool{}
	err := c.eachPrimary(ctx, func(ctx context.Context, _ string, _ map[string]string, node *goredis.Client) error {
		keys := node.Scan(ctx, 0, escapeGlob(prefix)+"*", scanCount).Iterator()
		for keys.Next(ctx) {
			version, _, _ := strings.Cut(strings.TrimPrefix(keys.Val(), prefix), ":")
			if n, err := strconv.Atoi(version); err == nil && n > 0 {
				seen[n] = true
			}
		}
		return keys.Err()
	})
	if err != nil {
		return nil, c.explain("look for the versions of "+group+" in redis", err)
	}
	var versions []int
	for n := range seen {
		versions = append(versions, n)
	}
	slices.Sort(versions)
	return versions, nil
}

// escapeGlob makes a pattern that matches text only.
func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(text)
}
