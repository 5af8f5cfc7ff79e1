package app

import (
	"crypto/rand"
	"strings"
)

func randomText() string { return strings.ToLower(rand.Text()[:8]) }
