"""What a policy is worth: offline on held-out steps, beside policies that know nothing."""
