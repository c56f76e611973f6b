# ADE20K at 512 x 512. ADE20KDataset maps the label 0, which belongs to none of the 150 classes, to
# the ignored 255 (reduce_zero_label).
_base_ = 'ade20k_format_512.py'

data_help = {
    'data/ade': """ADE20K: get ADEChallengeData2016.zip from
data.csail.mit.edu/places/ADEchallenge and unpack it to
data/ade/ADEChallengeData2016/{images,annotations}/{training,validation}/ (a symbolic
link data/ade will do)."""
}

ade20k = dict(type='ADE20KDataset', data_root='data/ade/ADEChallengeData2016')
train_dataloader = dict(dataset=ade20k)
val_dataloader = dict(dataset=ade20k)
test_dataloader = val_dataloader
