package admin

import (
	"encoding/json"
	"errors"
	"net/http"
)

// ProblemType is the media type of Problem (RFC 9457).
const ProblemType = "application/problem+json"

// Problem is the body of every answer that is an error.
type Problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
}

// maxDetail bounds what an error tells, in characters.
const maxDetail = 1024

// WriteProblem answers that something is wrong. Detail is for people.
func WriteProblem(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", ProblemType)
	w.WriteHeader(status)
	// If the client is gone there is nobody left to tell.
	_ = json.NewEncoder(w).Encode(Problem{Title: http.StatusText(status), Status: status, Detail: Clean(detail, maxDetail)})
}

// WriteError answers that err came out of a question or an action.
func WriteError(w http.ResponseWriter, err error) {
	var missing *NotFoundError
	var conflict *ConflictError
	var invalid *InvalidError
	status := http.StatusInternalServerError
	switch {
	case errors.As(err, &missing):
		status = http.StatusNotFound
	case errors.As(err, &conflict):
		status = http.StatusConflict
	case errors.As(err, &invalid):
		status = http.StatusBadRequest
	}
	WriteProblem(w, status, err.Error())
}
