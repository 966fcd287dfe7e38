// An API server with one pod: it authenticates, authorizes what is impersonated, and streams with the
// very code that Kubernetes' nodes stream with. The gate in front of it shares nothing with it.
package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	streaming "k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

const namespace, name = "ml", "trainer"

type server struct{}

func pod() core.Pod {
	return core.Pod{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: meta.ObjectMeta{Namespace: namespace, Name: name, UID: "1", ResourceVersion: "1"},
		Spec:       core.PodSpec{Containers: []core.Container{{Name: "main", Image: "trainer"}}},
		Status: core.PodStatus{
			Phase:             core.PodRunning,
			ContainerStatuses: []core.ContainerStatus{{Name: "main", Ready: true}},
		},
	}
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body)
}

func refuse(w http.ResponseWriter, status int, reason meta.StatusReason, message string) {
	answer(w, status, meta.Status{
		TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   "Failure", Message: message, Reason: reason, Code: int32(status),
	})
}

// ServeHTTP believes the gate's token and whom it impersonates.
func (server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, groups := r.Header.Get("Impersonate-User"), r.Header.Values("Impersonate-Group")
	fmt.Fprintf(os.Stderr, "%s %s as %s %v\n", r.Method, r.URL.Path, user, groups)
	bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if claims := claimsOf(bearer); claims["aud"] != "6dae42f8-4368-4678-94ff-3960e28e3630" {
		refuse(w, 401, meta.StatusReasonUnauthorized, "the token is not for this cluster")
		return
	}
	if user == "" {
		refuse(w, 403, meta.StatusReasonForbidden, "the gate itself may do nothing but impersonate")
		return
	}
	pods := "/api/v1/namespaces/" + namespace + "/pods"
	one := pods + "/" + name
	switch path := r.URL.Path; {
	case path == "/version":
		answer(w, 200, map[string]string{"major": "1", "minor": "37", "gitVersion": "v1.37.2"})
	case path == "/api":
		answer(w, 200, meta.APIVersions{TypeMeta: meta.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}})
	case path == "/apis":
		answer(w, 200, meta.APIGroupList{TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "APIGroupList"}, Groups: []meta.APIGroup{}})
	case path == "/api/v1":
		resource := func(name, kind string, verbs ...string) meta.APIResource {
			return meta.APIResource{Name: name, SingularName: strings.ToLower(kind), Namespaced: true, Kind: kind, Verbs: verbs}
		}
		answer(w, 200, meta.APIResourceList{
			TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "APIResourceList"}, GroupVersion: "v1",
			APIResources: []meta.APIResource{
				resource("pods", "Pod", "get", "list", "watch", "delete"), resource("pods/exec", "PodExecOptions", "create"),
				resource("secrets", "Secret", "get", "list"),
			},
		})
	case path == pods && r.URL.Query().Get("watch") != "":
		watch(w, r)
	case path == pods:
		answer(w, 200, core.PodList{
			TypeMeta: meta.TypeMeta{APIVersion: "v1", Kind: "PodList"}, ListMeta: meta.ListMeta{ResourceVersion: "1"},
			Items: []core.Pod{pod()},
		})
	case path == one && r.Method == "GET":
		answer(w, 200, pod())
	case path == one+"/log":
		logs(w, r)
	case path == one+"/exec":
		query := r.URL.Query()
		// An API server says it to a node in other words; here it is both.
		asked := func(name string) bool { return query.Get(name) == "true" }
		options := &streaming.Options{Stdin: asked("stdin"), Stdout: asked("stdout"), Stderr: asked("stderr"), TTY: asked("tty")}
		streaming.ServeExec(w, r, node{}, name, "1", query.Get("container"), query["command"], options,
			time.Hour, time.Minute, streaming.SupportedStreamingProtocols)
	case path == one+"/portforward":
		options, err := portforward.NewV4Options(r)
		if err != nil {
			refuse(w, 400, meta.StatusReasonBadRequest, err.Error())
			return
		}
		portforward.ServePortForward(w, r, node{}, name, "1", options, time.Hour, time.Minute, portforward.SupportedProtocols)
	default:
		refuse(w, 404, meta.StatusReasonNotFound, "there is no "+path)
	}
}

func claimsOf(token string) map[string]any {
	parts := strings.Split(token, ".")
	claims := map[string]any{}
	if len(parts) == 3 {
		if text, err := decode(parts[1]); err == nil {
			json.Unmarshal(text, &claims)
		}
	}
	return claims
}

// The pod is there; it changes when a client has seen it, and then nothing happens any more.
func watch(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	for _, kind := range []string{"ADDED", "MODIFIED"} {
		changed := pod()
		changed.ResourceVersion = map[string]string{"ADDED": "2", "MODIFIED": "3"}[kind]
		json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": changed})
		w.(http.Flusher).Flush()
	}
	<-r.Context().Done()
}

func logs(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "epoch 1")
	w.(http.Flusher).Flush()
	if r.URL.Query().Get("follow") == "true" {
		fmt.Fprintln(w, "epoch 2")
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

type node struct{}

// ExecInContainer runs the command here.
func (node) ExecInContainer(ctx context.Context, _, _, _ string, cmd []string, in io.Reader, out, err io.WriteCloser, _ bool, _ <-chan streaming.TerminalSize, _ time.Duration) error {
	command := exec.CommandContext(ctx, cmd[0], cmd[1:]...)
	command.Stdin, command.Stdout, command.Stderr = in, out, err
	if failed := command.Run(); failed != nil {
		if code, ok := failed.(*exec.ExitError); ok {
			return exitError{code}
		}
		return failed
	}
	return nil
}

// PortForward answers what it is sent, in capitals.
func (node) PortForward(_ context.Context, _, _ string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	buffer := make([]byte, 1024)
	n, err := stream.Read(buffer)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(stream, "%d %s", port, strings.ToUpper(string(buffer[:n])))
	return err
}

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "address")
	certificate, key := flag.String("certificate", "", "PEM"), flag.String("key", "", "PEM")
	flag.Parse()
	pair, err := tls.LoadX509KeyPair(*certificate, *key)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := tls.Listen("tcp", *listen, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Fprintln(os.Stderr, "listening on", listener.Addr())
	log.Fatal(http.Serve(listener, server{}))
}
