module p2prc

go 1.21
