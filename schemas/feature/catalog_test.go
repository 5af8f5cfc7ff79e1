package feature

import (
	"path/filepath"
	"testing"
)

func TestCatalogIsClean(t *testing.T) {
	plans, problems, err := Load([]string{filepath.FromSlash("../catalog")})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Error(p)
	}
	names := map[string]*Plan{}
	for _, p := range plans {
		names[p.Group] = p
	}
	for _, group := range []string{"user_purchases", "user_sessions"} {
		if names[group] == nil {
			t.Errorf("the catalog has no %s", group)
		}
	}
}
