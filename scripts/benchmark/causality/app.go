// A server in Go: GET /r/ID calls /u/ID upstream; with ?timer after a sleep of 3 ms, with ?raw
// without net/http's client, on connections of a pool that it writes to itself, as drivers of
// databases do.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

var upstream = "http://" + os.Getenv("UPSTREAM")

func call(path string, w io.Writer) {
	answer, err := http.Get(upstream + path)
	if err != nil {
		return
	}
	defer answer.Body.Close()
	io.Copy(w, answer.Body)
}

var idle = make(chan net.Conn, 1024)

func callRaw(path string, w io.Writer) {
	var connection net.Conn
	select {
	case connection = <-idle:
	default:
		var err error
		if connection, err = net.Dial("tcp", os.Getenv("UPSTREAM")); err != nil {
			return
		}
	}
	fmt.Fprintf(connection, "GET %s HTTP/1.1\r\nHost: upstream\r\n\r\n", path)
	answer, err := http.ReadResponse(bufio.NewReader(connection), nil)
	if err != nil {
		connection.Close()
		return
	}
	io.Copy(w, answer.Body)
	idle <- connection
}

func main() {
	http.DefaultTransport.(*http.Transport).DisableKeepAlives = os.Getenv("POOLED") != "1"
	http.HandleFunc("/background", func(http.ResponseWriter, *http.Request) {
		go func() {
			for n := 0; ; n++ {
				call(fmt.Sprintf("/u/background-%d", n), io.Discard)
				time.Sleep(20 * time.Millisecond)
			}
		}()
	})
	http.HandleFunc("/r/", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "timer" {
			time.Sleep(3 * time.Millisecond)
		}
		path := strings.Replace(r.URL.Path, "/r/", "/u/", 1)
		if r.URL.RawQuery == "raw" {
			callRaw(path, w)
			return
		}
		call(path, w)
	})
	panic(http.ListenAndServe(":8080", nil))
}
