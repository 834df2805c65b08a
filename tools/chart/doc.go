// Package chart holds the Helm chart and the compose file against the programs that read
// them: Helm's own engine, the types of Kubernetes, compose's own loader, and seatkeeper. It
// is a module of its own, because their dependencies are many and ours are few.
package chart
