package main

import (
	"encoding/base64"
	"os/exec"
)

// exitError tells the client how the command ended.
type exitError struct{ inner *exec.ExitError }

func (e exitError) Error() string   { return e.inner.Error() }
func (e exitError) String() string  { return e.inner.Error() }
func (e exitError) Exited() bool    { return e.inner.Exited() }
func (e exitError) ExitStatus() int { return e.inner.ExitCode() }

func decode(text string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(text) }
