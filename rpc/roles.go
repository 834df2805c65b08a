package rpc

import (
	"slices"

	"github.com/seatkeeper/seatkeeper/lease/access"
	pb "github.com/seatkeeper/seatkeeper/rpc/proto/seatkeeper/v1"
)

// rule says who may make a call, once a cluster has tokens.
type rule struct {
	roles []access.Role
	// wide calls are about the whole cluster: a token of one tenant may not make them.
	wide bool
	// acts calls are made in the name of a user: a token of one user may name that one only.
	acts bool
	// open calls need no token.
	open bool
}

// The roles come down to a few sets. An admin may do everything.
var (
	everybody  = []access.Role{access.Client, access.Viewer, access.Operator, access.Vendor}
	lookers    = []access.Role{access.Viewer, access.Operator, access.Vendor}
	watchers   = []access.Role{access.Viewer, access.Operator}
	holders    = []access.Role{access.Client, access.Operator}
	operators  = []access.Role{access.Operator}
	licensers  = []access.Role{access.Vendor}
	adminsOnly []access.Role
)

// metricsMethod stands for GET /metrics among the methods.
const metricsMethod = "/metrics"

// rules has every method of the API; a test sees to it. What is missing is an admin's.
var rules = map[string]rule{
	pb.Seats_Checkout_FullMethodName:   {roles: holders, acts: true},
	pb.Seats_Preview_FullMethodName:    {roles: everybody, acts: true},
	pb.Seats_Renew_FullMethodName:      {roles: holders},
	pb.Seats_RenewBatch_FullMethodName: {roles: holders},
	pb.Seats_Pipeline_FullMethodName:   {roles: holders}, // each call in it is judged by itself
	pb.Seats_Checkin_FullMethodName:    {roles: holders},
	pb.Seats_Verify_FullMethodName:     {roles: everybody},

	pb.Cluster_Status_FullMethodName:             {roles: everybody},
	pb.Cluster_StatusLeader_FullMethodName:       {roles: everybody},
	pb.Cluster_StatusPeers_FullMethodName:        {roles: everybody},
	pb.Cluster_Leases_FullMethodName:             {roles: watchers},
	pb.Cluster_Usage_FullMethodName:              {roles: lookers},
	pb.Cluster_Kill_FullMethodName:               {roles: operators},
	pb.Cluster_LicenseApply_FullMethodName:       {roles: licensers},
	pb.Cluster_LicenseList_FullMethodName:        {roles: lookers},
	pb.Cluster_LicenseRemove_FullMethodName:      {roles: licensers},
	pb.Cluster_TransferLeadership_FullMethodName: {roles: operators, wide: true},
	pb.Cluster_RemovePeer_FullMethodName:         {roles: adminsOnly, wide: true},

	pb.Operator_SnapshotSave_FullMethodName:    {roles: adminsOnly, wide: true}, // digests and keys are in it
	pb.Operator_SnapshotRestore_FullMethodName: {roles: adminsOnly, wide: true},

	pb.Borrowing_Borrow_FullMethodName:          {roles: holders, acts: true},
	pb.Borrowing_RenewBorrow_FullMethodName:     {roles: holders},
	pb.Borrowing_ReturnBorrow_FullMethodName:    {roles: holders},
	pb.Borrowing_RevokeBorrow_FullMethodName:    {roles: operators},
	pb.Borrowing_BorrowKeys_FullMethodName:      {roles: everybody}, // public keys
	pb.Borrowing_RotateBorrowKey_FullMethodName: {roles: adminsOnly, wide: true},

	pb.Policies_PolicyGet_FullMethodName:   {roles: watchers},
	pb.Policies_PolicyApply_FullMethodName: {roles: operators},
	pb.Policies_PolicyCheck_FullMethodName: {roles: watchers},

	pb.History_Denials_FullMethodName:     {roles: lookers},
	pb.History_UsageSums_FullMethodName:   {roles: lookers},
	pb.History_Concurrency_FullMethodName: {roles: lookers},

	pb.Queue_QueueList_FullMethodName:     {roles: watchers},
	pb.Queue_QueueLeave_FullMethodName:    {roles: holders},
	pb.Queue_BookingCreate_FullMethodName: {roles: operators}, // of a job scheduler
	pb.Queue_BookingList_FullMethodName:   {roles: watchers},
	pb.Queue_BookingCancel_FullMethodName: {roles: operators},

	pb.Access_AclBootstrap_FullMethodName: {open: true}, // refused once there is a token
	pb.Access_TokenCreate_FullMethodName:  {roles: adminsOnly, wide: true},
	pb.Access_TokenList_FullMethodName:    {roles: adminsOnly, wide: true},
	pb.Access_TokenRevoke_FullMethodName:  {roles: adminsOnly, wide: true},
	pb.Access_WhoAmI_FullMethodName:       {roles: everybody},

	pb.Diagnosis_Examine_FullMethodName:         {roles: operators, wide: true},
	pb.Diagnosis_Clock_FullMethodName:           {roles: watchers, wide: true},
	pb.Diagnosis_Monitor_FullMethodName:         {roles: operators, wide: true}, // users and hosts of all tenants are in it
	pb.Diagnosis_Collect_FullMethodName:         {roles: operators, wide: true}, // also GET /debug/pprof/
	pb.Membership_AutopilotState_FullMethodName: {roles: watchers, wide: true},
	pb.Membership_AddPeer_FullMethodName:        {roles: adminsOnly, wide: true},
	pb.Membership_ReplacePeer_FullMethodName:    {roles: adminsOnly, wide: true},

	pb.Tenants_TenantList_FullMethodName: {roles: lookers}, // a token of one tenant sees that one

	metricsMethod: {roles: watchers, wide: true},
}

func (r rule) allows(role access.Role) bool {
	return role == access.Admin || slices.Contains(r.roles, role)
}
