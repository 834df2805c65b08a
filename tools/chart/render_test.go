package chart

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

const chartDir = "../../deploy/helm/seatkeeper"

// rendered is the chart with values, as the types of Kubernetes.
type rendered struct {
	set      *appsv1.StatefulSet
	config   *corev1.ConfigMap
	services map[string]*corev1.Service
	budget   *policyv1.PodDisruptionBudget
	policy   *networkingv1.NetworkPolicy // nil: none
	account  *corev1.ServiceAccount
	monitor  *serviceMonitor // nil: none
	notes    string
}

// serviceMonitor is what the chart uses of the Prometheus operator's type.
type serviceMonitor struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name   string            `json:"name"`
		Labels map[string]string `json:"labels"`
	} `json:"metadata"`
	Spec struct {
		Selector struct {
			MatchLabels map[string]string `json:"matchLabels"`
		} `json:"selector"`
		Endpoints []struct {
			Port, Path, Interval, Scheme string
			TLSConfig                    *struct {
				CA struct {
					Secret struct{ Name, Key string } `json:"secret"`
				} `json:"ca"`
				ServerName string `json:"serverName"`
			} `json:"tlsConfig"`
			Authorization *struct {
				Credentials struct{ Name, Key string } `json:"credentials"`
			} `json:"authorization"`
		} `json:"endpoints"`
	} `json:"spec"`
}

// render runs Helm's engine with its check of the values, and decodes each document with
// every unknown or doubled key refused.
func render(values string) (*rendered, error) {
	chart, err := loader.Load(chartDir)
	if err != nil {
		return nil, err
	}
	var given map[string]any
	if err := yaml.UnmarshalStrict([]byte(values), &given); err != nil {
		return nil, err
	}
	all, err := util.ToRenderValues(chart, given, common.ReleaseOptions{Name: "seatkeeper", Namespace: "licences", IsInstall: true, Revision: 1}, nil)
	if err != nil {
		return nil, err
	}
	files, err := engine.Engine{Strict: true}.Render(chart, all)
	if err != nil {
		return nil, err
	}
	r := &rendered{services: map[string]*corev1.Service{}}
	for name, text := range files {
		if path.Base(name) == "NOTES.txt" {
			r.notes = text
			continue
		}
		for doc := range strings.SplitSeq(text, "\n---\n") {
			if err := r.add(doc); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", name, err, doc)
			}
		}
	}
	return r, nil
}

func (r *rendered) add(doc string) error {
	var head struct {
		APIVersion string `json:"apiVersion"`
		Kind       string `json:"kind"`
	}
	if err := yaml.Unmarshal([]byte(doc), &head); err != nil {
		return err
	}
	decode := func(into any) error { return yaml.UnmarshalStrict([]byte(doc), into) }
	switch head.APIVersion + " " + head.Kind {
	case " ": // nothing but comments
		return nil
	case "apps/v1 StatefulSet":
		r.set = &appsv1.StatefulSet{}
		return decode(r.set)
	case "v1 ConfigMap":
		r.config = &corev1.ConfigMap{}
		return decode(r.config)
	case "v1 Service":
		s := &corev1.Service{}
		err := decode(s)
		r.services[s.Name] = s
		return err
	case "v1 ServiceAccount":
		r.account = &corev1.ServiceAccount{}
		return decode(r.account)
	case "policy/v1 PodDisruptionBudget":
		r.budget = &policyv1.PodDisruptionBudget{}
		return decode(r.budget)
	case "networking.k8s.io/v1 NetworkPolicy":
		r.policy = &networkingv1.NetworkPolicy{}
		return decode(r.policy)
	case "monitoring.coreos.com/v1 ServiceMonitor":
		r.monitor = &serviceMonitor{}
		return decode(r.monitor)
	}
	return errors.New("the chart makes what no test knows")
}

func mustRender(t *testing.T, values string) *rendered {
	t.Helper()
	r, err := render(values)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// valueSets are ways to use the chart.
var valueSets = map[string]string{
	"defaults":   ``,
	"five nodes": "nodes: 5\nstorage: {size: 20Gi, className: local-ssd}\nresources: {requests: {cpu: 1}, limits: {memory: 2Gi}}",
	"for trying": "nodes: 1\ntls: {enabled: false}\nacl: {required: false}\ninsecure: true\nnetworkPolicy: {enabled: false}",
	"client certificates": "tls: {clientCerts: required, existingSecret: from-cert-manager, peerName: node.example}\nacl: {required: false}\n" +
		"gossip: {existingSecret: rotated}",
	"all there is": `
image: {repository: registry.example.com/seatkeeper, tag: v9.9.9, pullPolicy: Always}
imagePullSecrets: [{name: pull}]
clusterName: prod
bindAddress: "::"
trustedKeys: ["acme+1b2c3d4e+AbCd"]
config: {limits: {connections: 500}, log: {level: debug}, backups: {dir: /backups}}
service: {type: LoadBalancer, annotations: {a: b}}
networkPolicy:
  clients: [{namespaceSelector: {matchLabels: {team: cad}}}]
  extraEgress: [{to: [{podSelector: {}}], ports: [{port: 4317, protocol: TCP}]}]
serviceMonitor: {enabled: true, interval: 15s, labels: {release: prometheus}, tokenSecret: viewer}
serviceAccount: {annotations: {c: d}}
podAnnotations: {e: f}
podLabels: {g: h}
nodeSelector: {disk: ssd}
tolerations: [{key: x, operator: Exists}]
priorityClassName: high
topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {i: j}}}]
extraVolumes: [{name: backups, persistentVolumeClaim: {claimName: backups}}]
extraVolumeMounts: [{name: backups, mountPath: /backups}]
`,
}

func TestChartRendersToTheTypesOfKubernetes(t *testing.T) {
	for name, values := range valueSets {
		t.Run(name, func(t *testing.T) {
			r := mustRender(t, values)
			if r.set == nil || r.config == nil || len(r.services) != 2 || r.budget == nil || r.account == nil || r.notes == "" {
				t.Fatalf("%+v: something is missing", r)
			}
			if (r.policy == nil) != strings.Contains(values, "networkPolicy: {enabled: false}") {
				t.Errorf("network policy: %v", r.policy)
			}
			if (r.monitor != nil) != strings.Contains(values, "serviceMonitor: {enabled: true") {
				t.Errorf("service monitor: %v", r.monitor)
			}
			selectsItsPods(t, r)
			mountsWhatItNames(t, r)
			mayDoLittle(t, r)
		})
	}
}

// selectsItsPods checks that all selectors fit the labels of the pods.
func selectsItsPods(t *testing.T, r *rendered) {
	t.Helper()
	selectors := map[string]map[string]string{"stateful set": r.set.Spec.Selector.MatchLabels, "budget": r.budget.Spec.Selector.MatchLabels}
	for name, s := range r.services {
		selectors["service "+name] = s.Spec.Selector
	}
	if r.policy != nil {
		selectors["network policy"] = r.policy.Spec.PodSelector.MatchLabels
		selectors["peers of the network policy"] = r.policy.Spec.Ingress[0].From[0].PodSelector.MatchLabels
	}
	pods := r.set.Spec.Template.Labels
	for what, selector := range selectors {
		if len(selector) == 0 {
			t.Errorf("%s selects everything", what)
		}
		for k, v := range selector {
			if pods[k] != v {
				t.Errorf("%s selects %s=%s, pods have %q", what, k, v, pods[k])
			}
		}
	}
	if r.monitor != nil {
		found := 0
		for _, s := range r.services {
			fits := true
			for k, v := range r.monitor.Spec.Selector.MatchLabels {
				fits = fits && s.Labels[k] == v
			}
			if fits {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%d services fit the service monitor, want one: else pods are scraped twice or never", found)
		}
	}
}

func mountsWhatItNames(t *testing.T, r *rendered) {
	t.Helper()
	there := map[string]bool{}
	for _, v := range r.set.Spec.Template.Spec.Volumes {
		there[v.Name] = true
	}
	for _, c := range r.set.Spec.VolumeClaimTemplates {
		there[c.Name] = true
	}
	for _, m := range r.set.Spec.Template.Spec.Containers[0].VolumeMounts {
		if !there[m.Name] {
			t.Errorf("volume %s is mounted and not there", m.Name)
		}
		delete(there, m.Name)
	}
	for name := range there {
		t.Errorf("volume %s is there and not mounted", name)
	}
}

// mayDoLittle checks what the "restricted" level of the pod security standards asks for.
func mayDoLittle(t *testing.T, r *rendered) {
	t.Helper()
	pod := r.set.Spec.Template.Spec
	c := pod.Containers[0].SecurityContext
	switch {
	case !*pod.SecurityContext.RunAsNonRoot, *pod.SecurityContext.RunAsUser == 0, pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault:
		t.Errorf("the pod may do more than it needs: %v", pod.SecurityContext)
	case *c.AllowPrivilegeEscalation, !*c.ReadOnlyRootFilesystem, len(c.Capabilities.Drop) != 1, c.Capabilities.Drop[0] != "ALL":
		t.Errorf("the container may do more than it needs: %v", c)
	case pod.AutomountServiceAccountToken == nil || *pod.AutomountServiceAccountToken:
		t.Error("the pod gets a token of the cluster that it has no use for")
	}
	for _, e := range pod.Containers[0].Env {
		if strings.HasSuffix(e.Name, "_KEY") || strings.HasSuffix(e.Name, "_TOKEN") || e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
			t.Errorf("%s: a secret in the environment", e.Name)
		}
	}
	for key, text := range r.config.Data {
		if strings.Contains(text, "gossip.key") || strings.Contains(text, "PRIVATE KEY") {
			t.Errorf("%s: a secret in a config map", key)
		}
	}
}

func TestChartRefusesValuesThatMakeNoClusterOrNoSafeOne(t *testing.T) {
	for _, c := range []struct{ values, want string }{
		{"nodes: 2", "nodes"},
		{"nodes: 4", "nodes"},
		{"replicas: 3", "replicas"},
		{"image: {tag: latest}", "tag"},
		{"tls: {enabled: false}", "insecure: true"},
		{"acl: {required: false}", "acl.required"},
		{"tls: {clientCerts: maybe}", "clientCerts"},
		{"terminationGracePeriodSeconds: 5", "terminationGracePeriodSeconds"},
		{"trustedKeys: [nonsense]", "trustedKeys"},
		{"storage: {size: 8}", "size"},
	} {
		if _, err := render(c.values); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.values, err, c.want)
		}
	}
}
