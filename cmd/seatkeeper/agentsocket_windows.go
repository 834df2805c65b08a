package main

// ownerOnlyMatters: files have no modes here.
const ownerOnlyMatters = false

func ownerOnly() (restore func()) { return func() {} }
