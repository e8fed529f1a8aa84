// Reads an IP table as P2PRC does, but keeps its errors: into the struct of the current version,
// or with -legacy into that of v3.0.0. Prints one line for each machine.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"
)

type common struct {
	Name                 string        `json:"Name"`
	MachineUsername      string        `json:"MachineUsername"`
	Ipv4                 string        `json:"IPV4"`
	Ipv6                 string        `json:"IPV6"`
	Latency              time.Duration `json:"Latency"`
	Download             float64       `json:"Download"`
	Upload               float64       `json:"Upload"`
	ServerPort           string        `json:"ServerPort"`
	BareMetalSSHPort     string        `json:"BareMetalSSHPort"`
	EscapeImplementation string        `json:"EscapeImplementation"`
	UnSafeMode           bool          `json:"UnSafeMode"`
	PublicKey            string        `json:"PublicKey"`
	CustomInformation    string        `json:"CustomInformation"`
}

type current struct {
	common
	UDPServerPort string `json:"UDPServerPort"`
	NAT           bool   `json:"NAT"`
	ProxyServer   bool   `json:"ProxyServer"`
}

type legacy struct {
	common
	NAT         string `json:"NAT"`
	ProxyServer string `json:"ProxyServer"`
}

func read[T any](text []byte) ([]T, error) {
	var table struct {
		Rows []T `json:"ip_address"`
	}
	err := json.Unmarshal(text, &table)
	return table.Rows, err
}

func show(c common, nat, proxy any) {
	fmt.Printf("%q %q %q %q %d %v %v %q %v %v %q\n", c.Name, c.Ipv4, c.Ipv6, c.ServerPort,
		c.Latency.Nanoseconds(), c.Download, c.Upload, c.PublicKey, nat, proxy, c.CustomInformation)
}

func main() {
	old := len(os.Args) == 3 && os.Args[1] == "-legacy"
	text, err := os.ReadFile(os.Args[len(os.Args)-1])
	if err == nil && old {
		var rows []legacy
		rows, err = read[legacy](text)
		for _, row := range rows {
			show(row.common, row.NAT, row.ProxyServer)
		}
	} else if err == nil {
		var rows []current
		rows, err = read[current](text)
		for _, row := range rows {
			show(row.common, row.NAT, row.ProxyServer)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
