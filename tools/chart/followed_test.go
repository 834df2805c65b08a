//go:build linux

package chart

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	corev1 "k8s.io/api/core/v1"
)

const licence = `seatkeeper-license/1
license: L-1
vendor: acme
tenant: default
cluster: any
issued: 2020-01-01

feature: cad
version: 1.0
count: 2
expiry: never
serial: L-1-1
`

// vendorOf makes a vendor and its licence in a folder, with the image's own program, which
// it puts where the page finds it. It returns the verifier key.
func vendorOf(t *testing.T, h *host, dir string) (key, bin string) {
	t.Helper()
	bin = t.TempDir()
	tool := h.container("tool")
	if err := os.WriteFile(filepath.Join(dir, "floating.txt"), []byte(licence), 0o600); err != nil {
		t.Fatal(err)
	}
	shell(t, `cp "$1/usr/bin/seatkeeper" "$2/" && cd "$3" && PATH=$2:$PATH && seatkeeper license keygen acme >/dev/null && seatkeeper license sign floating.txt --key acme.signer.key --out floating.lic`, tool.root, bin, dir)
	text, err := os.ReadFile(filepath.Join(dir, "acme.verifier.key"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text)), bin
}

// The page for compose, followed to the letter on the image as it is built: compose's own
// code reads the file, and each service is the image's program in a root and a network of
// its own, as the service's user, with its files, variables, ports and probes.
func TestComposePageOfTheRunbookIsFollowedOnTheImage(t *testing.T) {
	if !inside(t) {
		return
	}
	h, dir := newHost(t), t.TempDir()
	shell(t, `cp "$1"/* "$2"`, "../../deploy/compose", dir)
	key, bin := vendorOf(t, h, dir)
	p := openPage(t, "First install: containers with compose", dir, "$(hostname -f)", "localhost", "acme+1b2c3d4e+AbCd", key)
	p.bin = bin
	p.standIn("sudo", `exec "$@"`)
	p.standIn("docker", "exit 0")
	p.run(p.blocks[0])
	p.run(p.blocks[1])

	env, err := dotenv.Read(filepath.Join(dir, ".env"))
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), types.ConfigDetails{WorkingDir: dir, Environment: env,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}}}, func(o *loader.Options) { o.SetProjectName("seatkeeper", true) })
	if err != nil {
		t.Fatal(err)
	}
	containers := map[string]*container{}
	for name, s := range project.Services {
		c := h.container(name)
		containers[name] = c
		c.command = s.Command
		for k, v := range s.Environment {
			c.env = append(slices.Clip(c.env), k+"="+*v)
		}
		for _, m := range s.Secrets { // as they are, with owner and mode
			target := m.Target
			if target == "" {
				target = m.Source
			}
			mount(t, project.Secrets[m.Source].File, c.path("/run/secrets/"+filepath.Base(target)))
		}
		for _, m := range s.Configs {
			mount(t, project.Configs[m.Source].File, c.path(m.Target))
		}
		for _, v := range s.Volumes { // a new one has the image's owner and mode
			if _, there := h.image.Config.Volumes[v.Target]; !there {
				t.Errorf("%s mounts %s, which is no volume of the image", name, v.Target)
			}
		}
		for _, port := range s.Ports {
			h.publish(port.Published, fmt.Sprintf("%s:%d", c.address, port.Target))
		}
	}
	for _, c := range containers {
		c.start()
	}
	for name, c := range containers {
		test := project.Services[name].HealthCheck.Test
		if test[0] != "CMD" {
			t.Fatalf("health check %v: there is no shell in the image", test)
		}
		c.healthy(test[1:])
	}
	if out := p.run(p.blocks[2]); !strings.Contains(out, "cad") || !strings.Contains(out, "node-3") {
		t.Errorf("the page ends with\n%s", out)
	}
	p.run("seatkeeper checkout cad --user ann --host ws1")
	for _, c := range containers {
		c.ends()
	}
}

func mount(t *testing.T, from, to string) {
	t.Helper()
	shell(t, `mkdir -p "$(dirname "$2")" && chmod 0755 "$(dirname "$2")" && cp -p "$1" "$2"`, from, to)
}

// The page for Kubernetes, followed to the letter on the image: kubectl keeps what it is
// told to make, helm renders the chart with the page's values, and each pod of its set is
// the image's program with the pod's names, files, variables and probes.
func TestKubernetesPageOfTheRunbookIsFollowedOnTheImage(t *testing.T) {
	if !inside(t) {
		return
	}
	h, dir := newHost(t), t.TempDir()
	key, bin := vendorOf(t, h, dir)
	p := openPage(t, "First install: Kubernetes", dir, "acme+1b2c3d4e+AbCd", key)
	p.bin = bin
	p.standIn("kubectl", `[ "$1 $2 $3 $4 $5" = "-n licences create secret generic" ] || exit 0
name=$6; shift 6
for from; do from=${from#--from-file=}; mkdir -p "cluster/$name" && cp "${from#*=}" "cluster/$name/${from%%=*}"; done`)
	p.standIn("helm", `[ "$1 $2 $3 $4 $5" = "install seatkeeper deploy/helm/seatkeeper --namespace licences" ] && [ "$6 $7" = "--values values.yaml" ]`)
	p.run(p.blocks[0])
	p.run(p.blocks[1])
	values, err := os.ReadFile(filepath.Join(dir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r := mustRender(t, string(values))

	var pods []*container
	set := r.set.Spec
	for i := range int(*set.Replicas) {
		pod := h.container(fmt.Sprintf("%s-%d", r.set.Name, i))
		// What the headless service makes of its pods.
		h.names[pod.name+"."+set.ServiceName+".licences.svc.cluster.local"] = pod.address
		pods = append(pods, pod)
	}
	spec := set.Template.Spec
	main := spec.Containers[0]
	for _, pod := range pods {
		pod.user = fmt.Sprintf("%d:%d", *spec.SecurityContext.RunAsUser, *spec.SecurityContext.RunAsGroup)
		pod.command = main.Args
		pod.env = append(slices.Clip(pod.env), podVariables(t, main.Env, pod)...)
		mountVolumes(t, r, pod, filepath.Join(dir, "cluster"))
		pod.start()
	}
	for _, pod := range pods {
		pod.healthy(main.StartupProbe.Exec.Command)
		pod.healthy(main.ReadinessProbe.Exec.Command)
		pod.healthy(main.LivenessProbe.Exec.Command)
	}
	// kubectl port-forward service/seatkeeper 7800:7800
	forwarded := r.services["seatkeeper"].Spec.Ports[0]
	if forwarded.Port != 7800 {
		t.Errorf("the service has port %d", forwarded.Port)
	}
	h.publish("7800", fmt.Sprintf("%s:%d", pods[1].address, portOf(t, main, forwarded.TargetPort.StrVal)))
	if out := p.run(p.blocks[2]); !strings.Contains(out, "cad") || !strings.Contains(out, "seatkeeper-2") {
		t.Errorf("the page ends with\n%s", out)
	}
	p.run("seatkeeper checkout cad --user ann --host ws1")
	for _, pod := range pods {
		pod.ends()
	}
}

// podVariables are the variables of a pod, in their order, with earlier ones filled in.
func podVariables(t *testing.T, list []corev1.EnvVar, pod *container) (env []string) {
	t.Helper()
	fields := map[string]string{"metadata.name": pod.name, "status.podIP": pod.address}
	known := map[string]string{}
	for _, e := range list {
		value := e.Value
		if e.ValueFrom != nil {
			value = fields[e.ValueFrom.FieldRef.FieldPath]
		}
		for k, v := range known {
			value = strings.ReplaceAll(value, "$("+k+")", v)
		}
		if value == "" || strings.Contains(value, "$(") {
			t.Fatalf("%s is %q", e.Name, value)
		}
		known[e.Name] = value
		env = append(env, e.Name+"="+value)
	}
	return env
}

// mountVolumes puts the volumes of a pod where its container finds them, with the owner
// and the mode that a kubelet gives them.
func mountVolumes(t *testing.T, r *rendered, pod *container, cluster string) {
	t.Helper()
	spec := r.set.Spec.Template.Spec
	volumes := map[string]corev1.Volume{}
	for _, v := range spec.Volumes {
		volumes[v.Name] = v
	}
	group := fmt.Sprint(*spec.SecurityContext.FSGroup)
	for _, m := range spec.Containers[0].VolumeMounts {
		v, to := volumes[m.Name], pod.path(m.MountPath)
		switch {
		case v.Secret != nil:
			from := filepath.Join(cluster, v.Secret.SecretName)
			shell(t, `rm -rf "$2" && mkdir -p "$2" && cp "$1"/* "$2/" && chown -R "0:$3" "$2" && chmod 0755 "$2" && chmod "$4" "$2"/*`, from, to, group, fmt.Sprintf("%04o", *v.Secret.DefaultMode))
		case v.ConfigMap != nil:
			text, there := r.config.Data[m.SubPath]
			if !there || v.ConfigMap.Name != r.config.Name {
				t.Fatalf("%s mounts %s of %s", pod.name, m.SubPath, v.ConfigMap.Name)
			}
			if err := os.WriteFile(to, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		default: // an empty folder, or the claim's disk
			shell(t, `rm -rf "$1" && mkdir -p "$1" && chown "0:$2" "$1" && chmod 2775 "$1"`, to, group)
		}
	}
}

// portOf is the number of a container's port.
func portOf(t *testing.T, c corev1.Container, name string) int32 {
	t.Helper()
	i := slices.IndexFunc(c.Ports, func(p corev1.ContainerPort) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("the container has no port %q", name)
	}
	return c.Ports[i].ContainerPort
}
