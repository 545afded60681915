//go:build tools

// Package tools names the program that is built from this module's requirements: scripts/nerdctl.
package tools

import _ "github.com/containerd/nerdctl/v2/cmd/nerdctl"
