package chart

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"
)

// nodeConfig is what of a node's config other hosts depend on.
type nodeConfig struct {
	API, Raft, Gossip struct{ Bind string }
	Join              []string
}

// Each port that a node listens on is one of its container's, which services and policies
// name rightly; and nodes are told to find each other by names that the headless service has.
func TestChartsPortsAndNamesAreThoseOfItsNodes(t *testing.T) {
	for name, values := range valueSets {
		t.Run(name, func(t *testing.T) {
			r := mustRender(t, values)
			var config nodeConfig
			if err := yaml.Unmarshal([]byte(r.config.Data["seatkeeper.yaml"]), &config); err != nil {
				t.Fatal(err)
			}
			ports := portsOf(t, r)
			bound := map[string]string{}
			for protocols, bind := range map[string]string{"TCP": config.API.Bind, "TCP ": config.Raft.Bind, "TCP UDP": config.Gossip.Bind} {
				number := bind[strings.LastIndex(bind, ":")+1:]
				for protocol := range strings.FieldsSeq(protocols) {
					bound[number+" "+protocol] = bind
				}
			}
			if !slices.Equal(slices.Sorted(maps.Keys(ports)), slices.Sorted(maps.Keys(bound))) {
				t.Errorf("a node listens on %v, its container has %v", bound, ports)
			}
			policyLetsThrough(t, r.policy, ports)
			advertisesItsName(t, r, config)
		})
	}
}

// portsOf are the ports of the container, "7800 TCP" to the name; those of the services must
// lead to them under the same number.
func portsOf(t *testing.T, r *rendered) map[string]string {
	t.Helper()
	ports := map[string]string{}
	for _, p := range r.set.Spec.Template.Spec.Containers[0].Ports {
		ports[fmt.Sprintf("%d %s", p.ContainerPort, p.Protocol)] = p.Name
	}
	for name, s := range r.services {
		for _, p := range s.Spec.Ports {
			if ports[fmt.Sprintf("%d %s", p.Port, p.Protocol)] != p.TargetPort.StrVal {
				t.Errorf("service %s leads %d to %s, containers have %v", name, p.Port, p.TargetPort.StrVal, ports)
			}
		}
		if want := map[bool]int{true: len(ports), false: 1}[name == r.set.Spec.ServiceName]; len(s.Spec.Ports) != want {
			t.Errorf("service %s has %d ports, want %d", name, len(s.Spec.Ports), want)
		}
	}
	return ports
}

// policyLetsThrough wants all ports open between nodes, both ways, and one to clients.
func policyLetsThrough(t *testing.T, policy *networkingv1.NetworkPolicy, ports map[string]string) {
	t.Helper()
	if policy == nil {
		return
	}
	open := func(list []networkingv1.NetworkPolicyPort) (names []string) {
		for _, p := range list {
			names = append(names, p.Port.String()+" "+string(*p.Protocol))
		}
		slices.Sort(names)
		return names
	}
	want := slices.Sorted(maps.Keys(ports))
	if in := open(policy.Spec.Ingress[0].Ports); !slices.Equal(in, want) {
		t.Errorf("from nodes %v is let in, want %v", in, want)
	}
	if out := open(policy.Spec.Egress[0].Ports); !slices.Equal(out, want) {
		t.Errorf("to nodes %v is let out, want %v", out, want)
	}
	if clients := open(policy.Spec.Ingress[1].Ports); len(clients) != 1 || ports[clients[0]] != "api" {
		t.Errorf("clients are let in to %v", clients)
	}
}

func advertisesItsName(t *testing.T, r *rendered, config nodeConfig) {
	t.Helper()
	domain := r.set.Spec.ServiceName + "." + "licences.svc.cluster.local"
	var join []string
	for i := range int(*r.set.Spec.Replicas) {
		join = append(join, fmt.Sprintf("%s-%d.%s:7802", r.set.Name, i, domain))
	}
	if len(join) == 1 {
		join = nil
	}
	if !slices.Equal(config.Join, join) {
		t.Errorf("a node joins %v, want %v", config.Join, join)
	}
	spec := r.set.Spec.Template.Spec
	c := spec.Containers[0]
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	for variable, bind := range map[string]string{"API": config.API.Bind, "RAFT": config.Raft.Bind} {
		if want := "$(SEATKEEPER_NAME)." + domain + bind[strings.LastIndex(bind, ":"):]; env["SEATKEEPER_"+variable+"_ADVERTISE"] != want {
			t.Errorf("%s is advertised as %s, want %s", variable, env["SEATKEEPER_"+variable+"_ADVERTISE"], want)
		}
	}
	for _, probe := range [][]string{c.StartupProbe.Exec.Command, c.LivenessProbe.Exec.Command, c.ReadinessProbe.Exec.Command} {
		if want := append([]string{"/usr/bin/seatkeeper", "health"}, c.Args[1:]...); len(probe) < len(want) || !slices.Equal(probe[:len(want)], want) {
			t.Errorf("a probe runs %v, the node %v", probe, c.Args)
		}
	}
	// The image's user, and its secrets and disk are that group's.
	if s := spec.SecurityContext; *s.RunAsUser != 65532 || *s.RunAsGroup != 65532 || *s.FSGroup != *s.RunAsGroup {
		t.Errorf("the pod runs as %d:%d with files of %d", *s.RunAsUser, *s.RunAsGroup, *s.FSGroup)
	}
}
