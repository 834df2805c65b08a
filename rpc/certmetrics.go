package rpc

import (
	"crypto/x509"

	"github.com/prometheus/client_golang/prometheus"
)

// certificateEnds tells when the certificates that this node uses now end.
type certificateEnds struct {
	read func() []*x509.Certificate // the node's own first, then its CA's
	end  *prometheus.Desc
}

func newCertificateEnds(read func() []*x509.Certificate) *certificateEnds {
	return &certificateEnds{read, prometheus.NewDesc("seatkeeper_tls_certificate_expiry_timestamp_seconds",
		"When the certificate that this node uses ends, in Unix time: its own, and the first of its CA's to end.", []string{"use"}, nil)}
}

// Describe tells the series there may be.
func (c *certificateEnds) Describe(to chan<- *prometheus.Desc) { to <- c.end }

// Collect reads them.
func (c *certificateEnds) Collect(to chan<- prometheus.Metric) {
	var ca *x509.Certificate
	for i, x := range c.read() {
		switch {
		case i == 0:
			to <- prometheus.MustNewConstMetric(c.end, prometheus.GaugeValue, float64(x.NotAfter.Unix()), "node")
		case ca == nil || x.NotAfter.Before(ca.NotAfter):
			ca = x
		}
	}
	if ca != nil {
		to <- prometheus.MustNewConstMetric(c.end, prometheus.GaugeValue, float64(ca.NotAfter.Unix()), "ca")
	}
}
