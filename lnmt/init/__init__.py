"""`lnmt init`: a working project from a file of texts and labels, or from one of the shipped profiles."""
