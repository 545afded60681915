module go-client

go 1.22

require (
	github.com/rootless-containers/bypass4netns v0.4.2
	// Of the upstream test that is run beside the client; `go mod tidy` does not know of it.
	github.com/sirupsen/logrus v1.9.3
	github.com/spf13/pflag v1.0.5
	github.com/stretchr/testify v1.10.0
	golang.org/x/sys v0.29.0
)

require github.com/gorilla/mux v1.8.1 // indirect
