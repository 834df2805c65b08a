package main

import (
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual pages of all commands; packages are made with it.
func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "man DIR",
		Short:       "Write the manual pages of all commands into DIR",
		Hidden:      true,
		Args:        cobra.ExactArgs(1),
		Annotations: noSettings(),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return exitf(exitError1, "%s: %s", args[0], fileMessage(err))
			}
			date, err := a.sourceDate()
			if err != nil {
				return err
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // it has the day of the build
			return doc.GenManTree(root, &doc.GenManHeader{Title: "SEATKEEPER", Section: "1", Date: &date,
				Source: "Seatkeeper " + buildVersion(), Manual: "Seatkeeper"}, args[0])
		},
	}
}

// sourceDate is SOURCE_DATE_EPOCH, by which builds of one source are the same; else now.
func (a *app) sourceDate() (time.Time, error) {
	text, _ := a.lookupEnv("SOURCE_DATE_EPOCH")
	if text == "" {
		return time.Now(), nil
	}
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH=%.40q: want seconds since 1970", text)
	}
	return time.Unix(seconds, 0).UTC(), nil
}
