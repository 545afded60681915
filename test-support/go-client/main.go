// A client of the API that is made of bypass4netns's own client packages and of what nerdctl sends.
//
//	go-client post ID DIRECTORY HOST_PORT PORT   begin, as nerdctl does before a container starts
//	go-client list                               what is bypassed
//	go-client delete ID                          end, as nerdctl does once it has stopped
//	go-client interfaces ID                      all calls of the com socket
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/rootless-containers/bypass4netns/pkg/api"
	"github.com/rootless-containers/bypass4netns/pkg/api/com"
	"github.com/rootless-containers/bypass4netns/pkg/api/daemon/client"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(words []string) error {
	runtimeDir := os.Getenv("XDG_RUNTIME_DIR")
	ctx := context.Background()
	if len(words) == 2 && words[0] == "interfaces" {
		return interfaces(ctx, filepath.Join(runtimeDir, "bypass4netnsd-com.sock"), words[1])
	}
	c, err := client.New(filepath.Join(runtimeDir, "bypass4netnsd.sock"))
	if err != nil {
		return err
	}
	bypasses := c.BypassManager()
	switch {
	case len(words) == 5 && words[0] == "post":
		spec, err := spec(words[1], words[2], words[3], words[4])
		if err != nil {
			return err
		}
		status, err := bypasses.StartBypass(ctx, *spec)
		if err != nil {
			return err
		}
		// What nerdctl relies on once it has the answer.
		if err := syscall.Kill(status.Pid, 0); err != nil {
			return fmt.Errorf("process %d: %w", status.Pid, err)
		}
		if _, err := os.Stat(spec.SocketPath); err != nil {
			return err
		}
		return print(status)
	case len(words) == 1 && words[0] == "list":
		statuses, err := bypasses.ListBypass(ctx)
		if err != nil {
			return err
		}
		return print(statuses)
	case len(words) == 2 && words[0] == "delete":
		return bypasses.StopBypass(ctx, words[1])
	}
	return fmt.Errorf("unknown words %q", words)
}

func spec(id, directory, hostPort, port string) (*api.BypassSpec, error) {
	parent, err := strconv.Atoi(hostPort)
	if err != nil {
		return nil, err
	}
	child, err := strconv.Atoi(port)
	if err != nil {
		return nil, err
	}
	return &api.BypassSpec{
		ID:            id,
		SocketPath:    filepath.Join(directory, id+".sock"),
		PidFilePath:   filepath.Join(directory, id+".pid"),
		LogFilePath:   filepath.Join(directory, id+".log"),
		IgnoreSubnets: []string{"127.0.0.0/8", "10.0.2.0/24", "auto"},
		PortMapping: []api.PortSpec{
			{Protos: []string{"tcp"}, ParentIP: "0.0.0.0", ParentPort: parent, ChildPort: child},
		},
	}, nil
}

func interfaces(ctx context.Context, socket, id string) error {
	c, err := com.NewComClient(socket)
	if err != nil {
		return err
	}
	if err := c.Ping(ctx); err != nil {
		return err
	}
	mac, err := net.ParseMAC("ea:1e:d5:cd:e2:ea")
	if err != nil {
		return err
	}
	ip, network, err := net.ParseCIDR("10.4.0.53/24")
	if err != nil {
		return err
	}
	network.IP = ip
	told := com.ContainerInterfaces{
		ContainerID: id,
		Interfaces: []com.Interface{
			{Name: "eth0", HWAddr: mac, Addresses: []net.IPNet{*network}},
			{Name: "lo", IsLoopback: true},
		},
		ForwardingPorts: map[int]int{5201: 5202},
	}
	if _, err := c.PostInterface(ctx, &told); err != nil {
		return err
	}
	all, err := c.ListInterfaces(ctx)
	if err != nil {
		return err
	}
	one, err := c.GetInterface(ctx, id)
	if err != nil {
		return err
	}
	if err := c.DeleteInterface(ctx, id); err != nil {
		return err
	}
	_, gone := c.GetInterface(ctx, id)
	return print(map[string]any{"told": told, "all": all, "one": one, "gone": fmt.Sprint(gone)})
}

func print(value any) error {
	return json.NewEncoder(os.Stdout).Encode(value)
}
