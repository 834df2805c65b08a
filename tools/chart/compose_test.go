package chart

import (
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

func TestComposeFileIsReadByComposesOwnLoader(t *testing.T) {
	details := types.ConfigDetails{
		WorkingDir:  "../../deploy/compose",
		ConfigFiles: []types.ConfigFile{{Filename: "../../deploy/compose/compose.yaml"}},
		Environment: types.Mapping{"SEATKEEPER_VERSION": "v1.2.3", "SEATKEEPER_HOST": "licences.example.com", "SEATKEEPER_TRUSTED_KEYS": "a,b"},
	}
	project, err := loader.LoadWithContext(t.Context(), details)
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) != 3 {
		t.Fatalf("%d services", len(project.Services))
	}
	for name, s := range project.Services {
		if s.Image != "seatkeeper:v1.2.3" || *s.Environment["SEATKEEPER_NAME"] != name || len(s.Secrets) != 4 || s.HealthCheck == nil {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for _, name := range []string{"SEATKEEPER_VERSION", "SEATKEEPER_HOST"} {
		without := details
		without.Environment = types.Mapping{}
		for k, v := range details.Environment {
			if k != name {
				without.Environment[k] = v
			}
		}
		if _, err := loader.LoadWithContext(t.Context(), without); err == nil {
			t.Errorf("it starts without %s", name)
		}
	}
}
