// A server in Go: GET /r/ID calls /u/ID upstream, with ?timer after a sleep of 3 ms.
package main

import (
	"fmt"
	"io"
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
		call(strings.Replace(r.URL.Path, "/r/", "/u/", 1), w)
	})
	panic(http.ListenAndServe(":8080", nil))
}
