//go:build !nextversion

package rpc

import "net/http"

// handleNext adds what the next version serves: nothing in this build.
func (s *Server) handleNext(*http.ServeMux) {}
