//go:build linux && !amd64

package node

func patchClock(int) (*clock, error) { return nil, ErrNoClock }

func (c *clock) write(int) error { return ErrNoClock }

func (n *Node) clockReadings() (mono, wall int64) { return 0, 0 }

func (n *Node) standStill(int) (func(), error) { return nil, ErrNoClock }
