// A web server whose pages say who asks, and a client that fetches one over both address
// families, in the ways that programs on net/http do.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(port string) {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		fmt.Fprintln(w, host)
	})
	// Both families on one socket.
	listener, err := net.Listen("tcp", ":"+port)
	check(err)
	fmt.Println("ready")
	check(http.Serve(listener, nil))
}

func get(client *http.Client, url string) {
	response, err := client.Get(url)
	check(err)
	page, err := io.ReadAll(response.Body)
	check(err)
	response.Body.Close()
	fmt.Print(string(page))
}

func times(count int, what func()) {
	var group sync.WaitGroup
	for i := 0; i < count; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			what()
		}()
	}
	group.Wait()
}

// The two addresses of a name, of which the first does not answer.
func fallback(silent, v4, port string) {
	deadline := time.Now().Add(60 * time.Second)
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	_, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", net.JoinHostPort(silent, port))
	if failed, ok := err.(net.Error); !ok || !failed.Timeout() {
		check(fmt.Errorf("a silent address: %v", err))
	}
	get(http.DefaultClient, "http://"+net.JoinHostPort(v4, port)+"/who")
}

func main() {
	if len(os.Args) == 2 {
		serve(os.Args[1])
	}
	v4, v6, port, silent := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	for _, host := range []string{v4, v6} {
		url := "http://" + net.JoinHostPort(host, port) + "/who"
		kept := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}}
		times(20, func() { get(kept, url) })
		times(20, func() { get(kept, url) })
		kept.CloseIdleConnections()
		fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		times(40, func() { get(fresh, url) })
	}
	fallback(silent, v4, port)
}
