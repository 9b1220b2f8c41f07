"""The photo-trained pose networks that `pchmr priors get blazepose` fetches."""
