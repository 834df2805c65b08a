package client_test

import (
	"context"
	"log"

	"github.com/seatkeeper/seatkeeper/rpc/client"
)

// The whole licence check. The cluster is named by SEATKEEPER_ADDR.
func Example() {
	lic, err := client.Checkout(context.Background(), "cad")
	if err != nil {
		log.Fatal("no licence: ", err)
	}
	defer lic.Close()
	for lic.Valid() {
		work()
	}
	log.Print("licence lost: ", lic.Reason())
}

func work() {}
